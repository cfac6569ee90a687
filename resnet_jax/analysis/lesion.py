"""Error after deleting and shuffling blocks (Veit et al. 2016, "Residual Networks Behave Like Ensembles
of Relatively Shallow Networks", §4).

Every lesion is a row of `keep` and of `order`: which branches work, and which block's weights stand in
each place. One compiled program computes them all; what comes before the first change is taken from the
whole network.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations, groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.stats import kendalltau

from resnet_jax.analysis.batches import BATCH_SIZE, in_batches, summed_correct
from resnet_jax.analysis.chain import Chain, Weights, split_chain
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.plots import lesion as plots
from resnet_jax.analysis.request import Answer, Named, Request
from resnet_jax.analysis.subject import Subject
from resnet_jax.models import ResNet, Views, mean_over_views, one_view

ERROR = "share of examples"
SEVERAL = 5


class Lesions(NamedTuple):
    """What is done to a network.

    Attributes:
        keep: bool[lesions, blocks], False: the branch of the block is deleted.
        order: int[lesions, blocks], number of the block that stands in each place.
    """

    keep: np.ndarray
    order: np.ndarray

    @property
    def first_change(self) -> np.ndarray:
        """int[lesions], the first place that differs from the network; `blocks`: none does."""
        same = self.keep & (self.order == np.arange(self.order.shape[1]))
        return np.where(same.all(1), same.shape[1], same.argmin(1))


def deletable(chain: Chain) -> np.ndarray:
    """Which blocks can be deleted, bool[blocks].

    All of a residual network: the shortcut stays, also where shape changes. Of a plain one, those that
    do not change shape: without any other, what follows would have no input.
    """
    return ~(np.array(chain.changes_shape) & chain.plain)


def delete_one(chain: Chain) -> Lesions:
    """Each block alone, where it can be deleted (Veit 2016, §4.1)."""
    keep = ~np.eye(chain.num_blocks, dtype=bool)[deletable(chain)]
    return _in_order(keep)


def delete_random(chain: Chain, most: int, draws: int, seed: int) -> tuple[Lesions, np.ndarray]:
    """Several blocks at once (Veit 2016, §4.2).

    Args:
        chain: of the network.
        most: blocks that are deleted; fewer where there are fewer.
        draws: of each number of blocks.
        seed: of the draws.

    Returns:
        The lesions, and how many blocks each deletes, int[lesions]: 1, …, `most`, `draws` times each.
    """
    places = np.flatnonzero(deletable(chain))
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(1, min(most, len(places)) + 1), draws)
    keep = np.ones((len(numbers), chain.num_blocks), bool)
    for row, number in zip(keep, numbers, strict=True):
        row[rng.choice(places, number, replace=False)] = False
    return _in_order(keep), numbers


def shuffle(chain: Chain, count: int, seed: int) -> tuple[Lesions, np.ndarray]:
    """Swap pairs of blocks of one kind and stage (Veit 2016, §4.3).

    Args:
        chain: of the network.
        count: how many orders; the number of swaps grows evenly from 1 to the number of blocks.
        seed: of the draws.

    Returns:
        The lesions, none where no two blocks are alike, and Kendall's τ of each order, float[lesions]:
        1 in order, −1 reversed.
    """
    pairs = [
        pair
        for run in _runs(chain)
        for pair in combinations(range(chain.groups[run[0]].start, _end(chain, run)), 2)
    ]
    rng = np.random.default_rng(seed)
    order = np.tile(np.arange(chain.num_blocks), (count if pairs else 0, 1))
    swaps = np.linspace(1, chain.num_blocks, len(order)).round().astype(int)
    for row, number in zip(order, swaps, strict=True):
        for i, j in rng.choice(pairs, number):
            row[[i, j]] = row[[j, i]]
    tau = [kendalltau(row, np.arange(chain.num_blocks)).statistic for row in order]
    return Lesions(np.ones(order.shape, bool), order), np.array(tau, float)


def _in_order(keep: np.ndarray) -> Lesions:
    return Lesions(keep, np.broadcast_to(np.arange(keep.shape[1]), keep.shape))


def _runs(chain: Chain) -> list[list[int]]:
    """Numbers of neighbouring groups whose blocks are alike, and so can change places."""
    runs = []
    for _, run in groupby(enumerate(chain.groups), lambda numbered: numbered[1].graph):
        runs.append([number for number, _ in run])
    return runs


def _end(chain: Chain, run: list[int]) -> int:
    last = chain.groups[run[-1]]
    return last.start + last.count


def error_after(
    model: ResNet,
    images: np.ndarray,
    labels: np.ndarray,
    lesions: Lesions,
    run: Callable = over_items,
    views: Views = one_view,
) -> np.ndarray:
    """Error of a network after each of several lesions.

    Args:
        model: in eval mode.
        images: float32[examples, height, width, channels], normalised.
        labels: int32[examples].
        lesions: of `delete_one`, `delete_random` or `shuffle`, or your own.
        run: computes the items, which are batches.
        views: of the images, over which logits are averaged.

    Returns:
        float64[lesions], share of wrong answers from 0 to 1; NaN where a logit is not finite.
    """
    chain, weights = split_chain(model)
    shared = weights, lesions.keep, lesions.order, lesions.first_change
    # Each device takes different batches.
    size = min(BATCH_SIZE, -(-len(labels) // jax.device_count()))
    images, labels = in_batches(images, labels, size)
    batches = {"images": images, "labels": labels}
    correct = run(partial(_count_correct, chain, views), shared, batches)["correct"]
    return 1 - correct.sum(0, dtype=np.float64) / (labels >= 0).sum()


def _count_correct(
    chain: Chain, views: Views, shared: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Correct answers in a batch after each lesion, float32[lesions]."""
    weights, *lesions = shared

    def logits(images: jax.Array) -> jax.Array:
        start = chain.stem(weights, images)
        _, outputs = chain.blocks(weights, start, lambda block, x, _: (block(x),) * 2)
        after = partial(lesion_logits, chain, weights, start, outputs)
        return lax.map(lambda lesion: after(*lesion), tuple(lesions))

    after_lesions = mean_over_views(logits, views(batch["images"]))
    return {"correct": jax.vmap(summed_correct, (0, None))(after_lesions, batch["labels"])}


def lesion_logits(
    chain: Chain,
    weights: Weights,
    start: jax.Array,
    outputs: list[jax.Array],
    keep: jax.Array,
    order: jax.Array,
    first_change: jax.Array,
) -> jax.Array:
    """Logits after a lesion.

    Args:
        chain, weights: of `split_chain`.
        start: output of the stem.
        outputs: of all blocks of the whole network, a stacked array for each group.
        keep, order, first_change: a row of `Lesions`.

    Returns:
        float32[batch, classes].
    """

    def step(block: Any, x: jax.Array, own: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        untouched, output, keep, survival = own
        if block.drop_path is not None:
            block.drop_path.set_survival(survival)
        run = partial(_block_after, chain.plain, block, x, keep)
        return lax.cond(untouched, lambda: output, run), None

    survival = jnp.concatenate([jnp.array(group.survival) for group in chain.groups])[order]
    untouched = jnp.arange(chain.num_blocks) < first_change
    extras = []
    for group, own_outputs in zip(chain.groups, outputs, strict=True):
        own = slice(group.start, group.start + group.count)
        extras.append((untouched[own], own_outputs, keep[own], survival[own]))
    x, _ = chain.blocks(_reordered(chain, weights, order), start, step, extras)
    return chain.head(weights, x)


def _block_after(plain: bool, block: Any, x: jax.Array, keep: jax.Array) -> jax.Array:
    """A block, without its branch where `keep` is False."""
    skip, branch = block.split(x)
    if plain and x.shape == branch.shape:
        return jnp.where(keep, block.join(skip, branch), x)
    return block.join(skip, jnp.where(keep, branch, 0))


def _reordered(chain: Chain, weights: Weights, order: jax.Array) -> Weights:
    """The weights of block `order[i]` in place i."""
    groups = []
    for run in _runs(chain):
        arrays = [weights["groups"][number] for number in run]
        joined = jax.tree.map(lambda *a: jnp.concatenate(a), *arrays)
        start = chain.groups[run[0]].start
        for number in run:
            group = chain.groups[number]
            rows = order[group.start : group.start + group.count] - start
            groups.append(jax.tree.map(lambda a, rows=rows: a[rows], joined))
    return {**weights, "groups": groups}


def analyze(request: Request) -> Answer:
    """Lesion curves of all networks.

    Raises:
        UserError: an option below 1, or networks of different data.
    """
    request.at_least(1, "max_deleted", "num_draws", "num_shuffles")
    request.one_data_set()
    first = request.subjects[0]
    examples = request.examples(first, first.evaluated_image)
    chance = 1 - 1 / len(request.subjects[0].data["class_names"])
    arrays = {"chance": Named(np.array(chance), (), ERROR)}
    results = {}
    for subject in request.subjects:
        own = _analyze_one(request, subject, examples.images, examples.labels)
        arrays |= {f"{subject.name}/{name}": array for name, array in own.items()}
        results[subject.name] = _summary(own)
    names = [subject.name for subject in request.subjects]
    figures = plots.figures(arrays, names, len(examples.labels))
    return Answer(arrays, results, figures, examples.facts)


def _analyze_one(
    request: Request, subject: Subject, images: np.ndarray, labels: np.ndarray
) -> dict[str, Named]:
    options = request.options
    chain, _ = split_chain(subject.model)
    whole = _in_order(np.ones((1, chain.num_blocks), bool))
    one = delete_one(chain)
    several, deleted = delete_random(chain, options.max_deleted, options.num_draws, options.seed)
    shuffles, tau = shuffle(chain, options.num_shuffles, options.seed)
    parts = (whole, one, several, shuffles)
    lesions = Lesions(*map(np.concatenate, zip(*parts, strict=True)))
    run = partial(request.over_items, subject, "delete and shuffle")
    views = subject.evaluated_image.views
    error = error_after(subject.model, images, labels, lesions, run, views)
    ends = np.cumsum([len(part.keep) for part in parts])[:-1]
    baseline, deletion, random, shuffled = np.split(error, ends)
    by_block = np.full(chain.num_blocks, np.nan)
    by_block[deletable(chain)] = deletion
    by_number = ("deleted", "draw")
    shape = deleted[-1] if len(deleted) else 0, options.num_draws
    return {
        "error": Named(baseline[0], (), ERROR),
        "deletion_error": Named(by_block, ("block",), ERROR),
        "changes_shape": Named(np.array(chain.changes_shape), ("block",)),
        "random_deletion_error": Named(random.reshape(shape), by_number, ERROR),
        "random_deletion_keep": Named(several.keep.reshape(*shape, -1), (*by_number, "block")),
        "shuffle_error": Named(shuffled, ("shuffle",), ERROR),
        "shuffle_order": Named(shuffles.order, ("shuffle", "place")),
        "kendall_tau": Named(tau, ("shuffle",)),
    }


def _summary(arrays: dict[str, Named]) -> dict[str, float]:
    deletion = arrays["deletion_error"].values
    changes = arrays["changes_shape"].values
    kinds = {"same_shape_deleted": deletion[~changes], "new_shape_deleted": deletion[changes]}
    numbers = {"error": float(arrays["error"].values)}
    for kind, errors in kinds.items():
        # Of a plain network, none that changes shape can be deleted.
        if not np.isnan(errors).all():
            numbers[f"median_{kind}"] = float(np.median(errors))
            numbers[f"worst_{kind}"] = float(np.max(errors))
    several = arrays["random_deletion_error"].values
    if len(several) >= SEVERAL:
        numbers[f"median_{SEVERAL}_deleted"] = float(np.median(several[SEVERAL - 1]))
    if len(arrays["kendall_tau"].values):
        lowest = arrays["kendall_tau"].values.argmin()
        numbers["lowest_tau"] = float(arrays["kendall_tau"].values[lowest])
        numbers["error_at_lowest_tau"] = float(arrays["shuffle_error"].values[lowest])
    return numbers
