// Convolutions and their gradients by oneDNN, on the threads of XLA's CPU client.
//
// oneDNN's own threads (OpenMP) stay unused: XLA calls from several threads at once, and each would
// get a team of its own. Instead the batch is split into parts, and each part runs on one thread.

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <compare>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using dnnl::memory;

enum Pass : int64_t { kForward, kImageGradient, kKernelGradient };

// A convolution of images[batch, height, width, channels] with a kernel[kernel_height, kernel_width,
// channels / groups, outputs], and which pass of it. Python gives the numbers in this order.
struct Problem {
  int64_t pass, bfloat16;
  int64_t batch, height, width, channels;
  int64_t kernel_height, kernel_width;
  int64_t out_height, out_width, outputs;
  int64_t row_stride, column_stride, top, bottom, left, right, groups;
  auto operator<=>(const Problem&) const = default;
};

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// While it lives, OpenMP gives this thread no team.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

using Buffer = std::unique_ptr<char, decltype(&std::free)>;

Buffer Allocate(size_t bytes) {
  constexpr size_t kLine = 64;
  size_t rounded = (bytes + kLine - 1) / kLine * kLine;
  Buffer buffer(static_cast<char*>(std::aligned_alloc(kLine, rounded ? rounded : kLine)), std::free);
  if (!buffer) throw std::bad_alloc();
  return buffer;
}

// kernel[height, width, channels / groups, outputs] as oneDNN's [(group,) output, channel, height, width].
memory::desc PlainKernel(const Problem& p, memory::data_type type) {
  int64_t outputs = p.outputs / p.groups, channels = p.channels / p.groups;
  memory::dims shape{outputs, channels, p.kernel_height, p.kernel_width};
  memory::dims steps{1, p.outputs, p.kernel_width * channels * p.outputs, channels * p.outputs};
  if (p.groups > 1) {
    shape.insert(shape.begin(), p.groups);
    steps.insert(steps.begin(), outputs);
  }
  return {shape, type, steps};
}

memory::data_type Type(const Problem& p) {
  return p.bfloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// Throws dnnl::error where oneDNN has no such pass.
dnnl::primitive_desc Describe(const Problem& p) {
  memory::data_type type = Type(p), f32 = memory::data_type::f32;
  memory::format_tag nhwc = memory::format_tag::nhwc, any = memory::format_tag::any;
  memory::desc images({p.batch, p.channels, p.height, p.width}, type, nhwc);
  memory::desc result({p.batch, p.outputs, p.out_height, p.out_width}, type, nhwc);
  memory::dims shape = PlainKernel(p, type).get_dims();
  memory::desc kernel(shape, type, any);
  memory::dims strides{p.row_stride, p.column_stride}, low{p.top, p.left}, high{p.bottom, p.right};
  dnnl::primitive_attr attributes;
  // The library's own scratchpad must not be used by two threads at once.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  auto direct = dnnl::algorithm::convolution_direct;
  dnnl::convolution_forward::primitive_desc forward(Engine(), dnnl::prop_kind::forward_training, direct,
                                                    images, kernel, result, strides, low, high,
                                                    attributes);
  if (p.pass == kForward) return forward;
  if (p.pass == kImageGradient)
    return dnnl::convolution_backward_data::primitive_desc(Engine(), direct, images, kernel, result,
                                                           strides, low, high, forward, attributes);
  memory::desc sums(shape, f32, any);  // Over parts of the batch, and so in float32.
  return dnnl::convolution_backward_weights::primitive_desc(Engine(), direct, images, sums, result,
                                                            strides, low, high, forward, attributes);
}

// Where the arrays of a problem lie.
struct Data {
  char *images, *kernel, *result;
};

struct Names {  // oneDNN's, of the arguments of a pass.
  int images, kernel, result;
};

Names NamesOf(int64_t pass) {
  if (pass == kForward) return {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
  if (pass == kImageGradient) return {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST};
  return {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST};
}

// A pass that is ready to run, in any number of threads at once.
class Program {
 public:
  explicit Program(const Problem& p) : names_(NamesOf(p.pass)), plain_kernel_(PlainKernel(p, Type(p))) {
    OneThread one;
    dnnl::primitive_desc description = Describe(p);
    auto layout = [&](int name) { return description.query_md(dnnl::query::exec_arg_md, name); };
    images_ = layout(names_.images), kernel_ = layout(names_.kernel), result_ = layout(names_.result);
    scratchpad_ = description.scratchpad_desc();
    pass_ = dnnl::primitive(description);
    back_ = p.pass == kKernelGradient;
    reorder_ = dnnl::reorder({Engine(), back_ ? kernel_ : plain_kernel_, Engine(), back_ ? plain_kernel_ : kernel_});
  }

  bool SameLayout(const Program& other) const { return kernel_ == other.kernel_; }

  size_t KernelBytes() const { return kernel_.get_size(); }

  // Of one part of the batch; the kernel is in oneDNN's layout.
  void Run(const Data& data) const {
    Buffer scratch = Allocate(scratchpad_.get_size());
    dnnl::stream stream(Engine());
    pass_.execute(stream, {{names_.images, memory(images_, Engine(), data.images)},
                           {names_.kernel, memory(kernel_, Engine(), data.kernel)},
                           {names_.result, memory(result_, Engine(), data.result)},
                           {DNNL_ARG_SCRATCHPAD, memory(scratchpad_, Engine(), scratch.get())}});
    stream.wait();
  }

  // A kernel from the plain layout to oneDNN's; a gradient of a kernel the other way.
  void Reorder(char* from, char* to) const {
    OneThread one;
    dnnl::stream stream(Engine());
    memory source(back_ ? kernel_ : plain_kernel_, Engine(), from);
    memory target(back_ ? plain_kernel_ : kernel_, Engine(), to);
    dnnl::reorder(reorder_).execute(stream, source, target);
    stream.wait();
  }

 private:
  Names names_;
  bool back_;  // The kernel is the result.
  memory::desc images_, kernel_, plain_kernel_, result_, scratchpad_;
  dnnl::primitive pass_;
  dnnl::reorder reorder_;
};

const Program& ProgramFor(const Problem& p) {
  static std::mutex mutex;
  static std::map<Problem, Program> programs;
  std::lock_guard<std::mutex> lock(mutex);
  return programs.try_emplace(p, p).first->second;
}

// Calls body(0), …, body(count - 1) in this thread and in those of the pool that are free. Every part
// is taken by a thread that runs, so a busy pool delays nothing for ever.
template <typename Body>
void Parallel(ffi::ThreadPool& pool, int64_t count, const Body& body) {
  struct State {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
    int64_t done = 0;
    std::exception_ptr fault;
  };
  auto state = std::make_shared<State>();
  // A thread that comes late finds no part left, and so does not touch the body, which is gone.
  auto work = [state, count, &body] {
    OneThread one;
    for (int64_t part; (part = state->next.fetch_add(1)) < count;) {
      std::exception_ptr fault;
      try {
        body(part);
      } catch (...) {
        fault = std::current_exception();
      }
      std::lock_guard<std::mutex> lock(state->mutex);
      if (fault) state->fault = fault;
      if (++state->done == count) state->all_done.notify_all();
    }
  };
  int64_t helpers = std::min(count, pool.num_threads()) - 1;
  for (int64_t helper = 0; helper < helpers; ++helper) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == count; });
  if (state->fault) std::rethrow_exception(state->fault);
}

// Part of an index range that is split evenly.
int64_t Begin(int64_t part, int64_t parts, int64_t size) { return part * size / parts; }

size_t Bytes(const Problem& p, int64_t height, int64_t width, int64_t channels) {
  return height * width * channels * (p.bfloat16 ? 2 : 4);
}

// Part of the batch, and where it lies. The parts of a kernel's gradient lie one after the other.
Data PartOf(const Problem& p, const Data& data, int64_t begin, size_t kernel_offset) {
  return {data.images + begin * Bytes(p, p.height, p.width, p.channels), data.kernel + kernel_offset,
          data.result + begin * Bytes(p, p.out_height, p.out_width, p.outputs)};
}

void AddParts(ffi::ThreadPool& pool, float* sums, int64_t parts, int64_t entries) {
  constexpr int64_t kLeast = 1 << 15;  // Entries that are worth a thread.
  int64_t chunks = std::max<int64_t>(1, std::min(pool.num_threads(), entries / kLeast));
  Parallel(pool, chunks, [&](int64_t chunk) {
    int64_t begin = Begin(chunk, chunks, entries), end = Begin(chunk + 1, chunks, entries);
    for (int64_t part = 1; part < parts; ++part)  // In this order, whatever thread computed which.
      for (int64_t entry = begin; entry < end; ++entry) sums[entry] += sums[part * entries + entry];
  });
}

void Compute(ffi::ThreadPool& pool, const Problem& problem, const Data& data) {
  bool of_kernel = problem.pass == kKernelGradient;
  // More parts share the work better, but each of a kernel's gradient is a further sum.
  int64_t parts = std::min(problem.batch, pool.num_threads() * (of_kernel ? 1 : 4));
  auto part_problem = [&](int64_t part) {
    Problem p = problem;
    p.batch = Begin(part + 1, parts, problem.batch) - Begin(part, parts, problem.batch);
    return p;
  };
  // Parts differ by one image at most, and the last is no smaller than the first.
  if (!ProgramFor(part_problem(0)).SameLayout(ProgramFor(part_problem(parts - 1)))) parts = 1;
  const Program& first = ProgramFor(part_problem(0));
  size_t kernel_bytes = first.KernelBytes(), step = of_kernel ? kernel_bytes : 0;
  Buffer kernels = Allocate(of_kernel ? parts * kernel_bytes : kernel_bytes);
  if (!of_kernel) first.Reorder(data.kernel, kernels.get());
  Parallel(pool, parts, [&](int64_t part) {
    Data whole{data.images, kernels.get(), data.result};
    ProgramFor(part_problem(part)).Run(PartOf(problem, whole, Begin(part, parts, problem.batch), part * step));
  });
  if (!of_kernel) return;
  AddParts(pool, reinterpret_cast<float*>(kernels.get()), parts, kernel_bytes / sizeof(float));
  first.Reorder(kernels.get(), data.kernel);
}

Problem Parse(const int64_t* numbers) {
  Problem p;
  std::copy_n(numbers, sizeof p / sizeof *numbers, reinterpret_cast<int64_t*>(&p));
  return p;
}

ffi::Error Convolve(ffi::ThreadPool pool, ffi::Span<const int64_t> numbers, ffi::AnyBuffer left,
                    ffi::AnyBuffer right, ffi::Result<ffi::AnyBuffer> out) {
  if (numbers.size() != sizeof(Problem) / sizeof(int64_t)) return ffi::Error::InvalidArgument("numbers");
  Problem p = Parse(numbers.begin());
  auto [first, second, third] = std::array{static_cast<char*>(left.untyped_data()),
                                           static_cast<char*>(right.untyped_data()),
                                           static_cast<char*>(out->untyped_data())};
  try {
    if (p.pass == kForward) Compute(pool, p, {first, second, third});
    if (p.pass == kImageGradient) Compute(pool, p, {third, second, first});
    if (p.pass == kKernelGradient) Compute(pool, p, {first, third, second});
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

#define PUBLIC extern "C" __attribute__((visibility("default")))

PUBLIC XLA_FFI_Error* resnet_jax_convolution(XLA_FFI_CallFrame* call);
XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_jax_convolution, Convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<ffi::Span<const int64_t>>("numbers")
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

// Whether oneDNN has code for this processor, and not only its slow reference.
PUBLIC int resnet_jax_has_code(const int64_t* numbers) {
  OneThread one;
  try {
    return std::string_view(Describe(Parse(numbers)).impl_info_str()).find("ref") == std::string_view::npos;
  } catch (const dnnl::error&) {
    return 0;
  }
}
