// Decodes a box of a JPEG file and resizes it, by libjpeg-turbo (its own additions to libjpeg are needed).
//
// Rows above the box are not transformed, those below not read, and blocks beside it left out. The rest is
// exactly what decoding the whole file gives. The filter of each direction is that of
// `resnet_jax.data.images._bilinear`: a smoothing of 3 taps where the image shrinks, then linear
// interpolation, which is 4 taps. Their weights are multiples of 1/256.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pairs of bytes are taken for numbers of 16 bits, the lower one first"
#endif

#define TAPS 4
// libjpeg writes red, green, blue and a byte that is not used.
#define CHANNELS 4
// Columns of `across` at once.
#define TOGETHER 4
// Pixels beside the box, so that the interpolation of colours sees what it sees in the whole image.
#define MARGIN 4

// Loops for processors with and without AVX2, chosen when the library is loaded.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

typedef uint8_t Bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t Words __attribute__((vector_size(16)));

typedef struct {
  int left, top, width, height;
} Box;

// What makes one row or column of the result: 4 in a row of the box, from `start`.
typedef struct {
  int start;
  uint16_t weights[TAPS];
} Filter;

static void set_filter(Filter *filter, double centre, double ratio, int count) {
  double side = ratio > 1 ? (ratio * ratio - 1) / 12 : 0;
  side = side > 1.0 / 3 ? 1.0 / 3 : side;
  centre = centre < 0 ? 0 : centre > count - 1 ? count - 1 : centre;
  int before = (int)centre;
  double share = centre - before, middle = 1 - 2 * side;
  double shares[TAPS] = {side * (1 - share), middle * (1 - share) + side * share,
                         side * (1 - share) + middle * share, side * share};
  int start = before - 1;
  start = start < 0 ? 0 : start > count - TAPS ? count - TAPS : start;
  double sums[TAPS] = {0};
  for (int tap = 0; tap < TAPS; tap++) {
    int place = before - 1 + tap;
    // The edge goes on outside.
    place = place < 0 ? 0 : place > count - 1 ? count - 1 : place;
    sums[place - start] += shares[tap];
  }
  int rest = 256, largest = 0;
  for (int tap = 0; tap < TAPS; tap++) {
    filter->weights[tap] = (uint16_t)(sums[tap] * 256 + 0.5);
    rest -= filter->weights[tap];
    if (sums[tap] > sums[largest]) largest = tap;
  }
  filter->weights[largest] += rest;
  filter->start = start;
}

static void set_filters(Filter *filters, int count, int size) {
  double ratio = (double)count / size;
  for (int i = 0; i < size; i++) set_filter(filters + i, (i + 0.5) * ratio - 0.5, ratio, count);
}

// Four rows become one.
FOR_EACH_PROCESSOR
static void down(const uint8_t *restrict a, const uint8_t *restrict b, const uint8_t *restrict c,
                 const uint8_t *restrict d, const uint16_t *weights, size_t count,
                 uint8_t *restrict out) {
  uint16_t wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
  for (size_t i = 0; i < count; i++) {
    uint16_t sum = (uint16_t)(a[i] * wa) + (uint16_t)(b[i] * wb) + (uint16_t)(c[i] * wc) +
                   (uint16_t)(d[i] * wd) + 128;
    out[i] = sum >> 8;
  }
}

#define INLINE static inline __attribute__((always_inline))

// The weighted pixels 0 + 2 and 1 + 3.
INLINE Words half_sum(const uint8_t *pixels, const Words *weights) {
  Bytes four = *(const Bytes *)pixels, none = {0};
  Words first = (Words)__builtin_shufflevector(four, none, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  Words last = (Words)__builtin_shufflevector(four, none, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return first * weights[0] + last * weights[1];
}

// Two pixels of the result; each second byte is 0.
INLINE Bytes two(Words first, Words second) {
  Words sums = __builtin_shufflevector(first, second, 0, 1, 2, 3, 8, 9, 10, 11) +
               __builtin_shufflevector(first, second, 4, 5, 6, 7, 12, 13, 14, 15);
  return (Bytes)((sums + 128) >> 8);
}

// Four columns become one; writes up to 4 bytes too many.
FOR_EACH_PROCESSOR
static void across(const uint8_t *row, const Filter *filters, const Words *weights, int size,
                   uint8_t *out) {
  for (int i = 0; i < size; i += TOGETHER) {
    Words sums[TOGETHER];
    for (int k = 0; k < TOGETHER; k++)
      sums[k] = half_sum(row + CHANNELS * filters[i + k].start, weights + 2 * (i + k));
    *(Bytes *)(out + 3 * i) = __builtin_shufflevector(two(sums[0], sums[1]), two(sums[2], sums[3]), 0, 2, 4, 8, 10, 12,
                                                      16, 18, 20, 24, 26, 28, -1, -1, -1, -1);
  }
}

typedef struct {
  struct jpeg_error_mgr manager;
  jmp_buf jump;
} Failure;

static void fail(j_common_ptr file) { longjmp(((Failure *)file->err)->jump, 1); }

static void fail_at_warnings(j_common_ptr file, int level) {
  if (level < 0) fail(file);
}

// Memory that `jpeg_destroy_decompress` frees.
static void *allocate(struct jpeg_decompress_struct *file, size_t bytes) {
  void *memory = file->mem->alloc_large((j_common_ptr)file, JPOOL_PERMANENT, bytes);
  memset(memory, 0, bytes);
  return memory;
}

static void resize(struct jpeg_decompress_struct *file, Box box, int skipped, int size, uint8_t *out) {
  int padded = (size + TOGETHER - 1) / TOGETHER * TOGETHER;
  Filter *rows = allocate(file, sizeof(Filter) * size);
  Filter *columns = allocate(file, sizeof(Filter) * padded);
  set_filters(rows, box.height, size);
  set_filters(columns, box.width, size);
  Words *weights = allocate(file, 2 * sizeof(Words) * padded);
  for (int i = 0; i < 2 * size; i++)
    for (int lane = 0; lane < 8; lane++)
      weights[i][lane] = columns[i / 2].weights[i % 2 * 2 + lane / CHANNELS];
  // The last rows that were read. Not at addresses that 16 divides, where libjpeg writes past the cache.
  size_t stride = (CHANNELS * (size_t)file->output_width + 63) / 64 * 64;
  uint8_t *ring = (uint8_t *)allocate(file, TAPS * stride + 4) + 4;
  uint8_t *blended = allocate(file, CHANNELS * (size_t)box.width);
  uint8_t *finished = allocate(file, 3 * (size_t)padded + 4);
  size_t row_bytes = 3 * (size_t)size;
  int read = 0;
  for (int i = 0; i < size; i++) {
    const uint8_t *taps[TAPS];
    for (; read < rows[i].start + TAPS; read++) {
      JSAMPROW row = ring + read % TAPS * stride;
      jpeg_read_scanlines(file, &row, 1);
    }
    for (int k = 0; k < TAPS; k++)
      taps[k] = ring + (rows[i].start + k) % TAPS * stride + CHANNELS * skipped;
    down(taps[0], taps[1], taps[2], taps[3], rows[i].weights, CHANNELS * (size_t)box.width, blended);
    // Where what is written too much does not fit, it goes elsewhere first.
    uint8_t *row = out + row_bytes * i;
    int fits = row_bytes * (size - i) >= 3 * (size_t)padded + 4;
    across(blended, columns, weights, size, fits ? row : finished);
    if (!fits) memcpy(row, finished, row_bytes);
  }
}

static int is_restart(int mark) { return mark >= JPEG_RST0 && mark < JPEG_RST0 + 8; }

// Whether the rest of the file is a scan up to the end mark: what is cut off, or has other marks, may be
// damaged, and whoever decodes the whole has to judge.
static int ends_well(struct jpeg_decompress_struct *file) {
  int mark = file->unread_marker;
  if (jpeg_input_complete(file) || mark == JPEG_EOI) return 1;
  if (mark && !is_restart(mark)) return 0;
  const uint8_t *at = file->src->next_input_byte, *end = at + file->src->bytes_in_buffer;
  while ((at = memchr(at, 0xFF, end - at)) && ++at < end) {
    if (*at == JPEG_EOI) return 1;
    // Behind 255 a 0 is none, and another 255 fills.
    if (*at != 0 && *at != 0xFF && !is_restart(*at)) return 0;
  }
  return 0;
}

// 1, or 0 where the file gives an error or a warning or may be damaged, or the box is too small or not in it.
static int decode(const uint8_t *content, size_t length, int reduction, Box box, int size, uint8_t *out) {
  struct jpeg_decompress_struct file;
  Failure failure;
  file.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = fail;
  failure.manager.emit_message = fail_at_warnings;
  if (setjmp(failure.jump)) {
    jpeg_destroy_decompress(&file);
    return 0;
  }
  jpeg_create_decompress(&file);
  jpeg_mem_src(&file, content, length);
  jpeg_read_header(&file, TRUE);
  file.out_color_space = JCS_EXT_RGBX;
  file.scale_num = 1;
  file.scale_denom = reduction;
  jpeg_start_decompress(&file);
  int width = file.output_width, height = file.output_height;
  int fits = box.left >= 0 && box.top >= 0 && box.width >= TAPS && box.height >= TAPS &&
             box.width <= width - box.left && box.height <= height - box.top;
  if (!fits) fail((j_common_ptr)&file);
  JDIMENSION start = box.left < MARGIN ? 0 : box.left - MARGIN;
  JDIMENSION end = box.left + box.width > width - MARGIN ? width : box.left + box.width + MARGIN;
  JDIMENSION columns = end - start;
  jpeg_crop_scanline(&file, &start, &columns);
  jpeg_skip_scanlines(&file, box.top);
  resize(&file, box, box.left - start, size, out);
  if (!ends_well(&file)) fail((j_common_ptr)&file);
  jpeg_destroy_decompress(&file);
  return 1;
}

static PyObject *crop(PyObject *self, PyObject *arguments) {
  Py_buffer content, out;
  Box box;
  int reduction, size, done = 0;
  if (!PyArg_ParseTuple(arguments, "y*i(iiii)iw*", &content, &reduction, &box.left, &box.top, &box.width,
                        &box.height, &size, &out))
    return NULL;
  if (size > 0 && size <= 65535 && out.len == 3 * (Py_ssize_t)size * size) {
    Py_BEGIN_ALLOW_THREADS
    done = decode(content.buf, content.len, reduction, box, size, out.buf);
    Py_END_ALLOW_THREADS
  }
  PyBuffer_Release(&content);
  PyBuffer_Release(&out);
  return PyBool_FromLong(done);
}

static PyMethodDef methods[] = {
    {"crop", crop, METH_VARARGS,
     "crop(content, reduction, (left, top, width, height), size, out) -> bool\n\n"
     "Decode a box of a JPEG file, and resize it to size x size pixels, into out: uint8[size, size, 3].\n"
     "The box is in pixels of the image at 1 / reduction (1, 2, 4, 8) of its size, 4 a side at least.\n"
     "False: not done, as the file gives an error or a warning, or the box does not fit."},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "resnet_jax_jpeg", NULL, 0, methods};
PyMODINIT_FUNC PyInit_resnet_jax_jpeg(void) { return PyModuleDef_Init(&module); }
