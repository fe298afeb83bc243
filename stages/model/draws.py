"""Draw the random numbers of many rows at once, as one NumPy generator per row would.

`numpy.random.default_rng([seed, epoch, row])` takes 50 µs, of which a GPU augments and trains on a
crop in 100. The functions here compute its seeding (numpy.random.SeedSequence) and its generator
(PCG64) on arrays; NumPy promises that neither changes.
"""

import numpy as np

# The constants of SeedSequence (O'Neill's seed_seq_fe) and of PCG64.
POOL, MASK = 4, 0xFFFFFFFF
MULTIPLIER = divmod(0x2360ED051FC65DA44385DF649FCCF645, 2**64)


def draws(seed: int, epoch: int, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an orientation from 0 to 7 and `count` numbers from -1 to 1 for each row.

    They are `random.integers(8)` and `random.uniform(-1, 1, count)` of
    `random = numpy.random.default_rng([seed, epoch, row])`.

    Args:
        seed, epoch: less than 2**32.
        rows: int (n,), less than 2**32.

    Returns:
        int64 (n,) and float64 (n, count).
    """
    random = PCG64(_seeds(seed, epoch, rows))
    # `integers` takes the top bits of half a number, `uniform` those of a whole one.
    orientations = ((random.next() & MASK) >> 29).astype(np.int64)
    numbers = np.stack([random.next() >> 11 for _ in range(count)], axis=-1)
    return orientations, 2 * (numbers * 2.0**-53) - 1


class _Hash:
    """The hash of SeedSequence: each call multiplies by the next power of a constant."""

    def __init__(self, first: int, factor: int):
        self.constant, self.factor = first, factor

    def __call__(self, value: np.ndarray) -> np.ndarray:
        value = value ^ np.uint32(self.constant)
        self.constant = self.constant * self.factor & MASK
        value = value * np.uint32(self.constant)
        return value ^ value >> 16


def _seeds(seed: int, epoch: int, rows: np.ndarray) -> list[np.ndarray]:
    """Return `numpy.random.SeedSequence([seed, epoch, row]).generate_state(4, numpy.uint64)`."""
    mixed = _Hash(0x43B0D7E5, 0x931E8875)
    entropy = [np.full(len(rows), word, dtype=np.uint32) for word in (seed, epoch)]
    entropy += [rows.astype(np.uint32), np.zeros(len(rows), dtype=np.uint32)]
    pool: list[np.ndarray] = [mixed(word) for word in entropy]
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                both: np.ndarray = pool[target] * np.uint32(0xCA01F9DD) - mixed(
                    pool[source]
                ) * np.uint32(0x4973F715)
                pool[target] = both ^ both >> 16
    hashed = _Hash(0x8B51F9DD, 0x58F38DED)
    words = [hashed(pool[number % POOL]).astype(np.uint64) for number in range(2 * POOL)]
    return [low | high << 32 for low, high in zip(words[::2], words[1::2])]


class PCG64:
    """The generator of `numpy.random.default_rng`, for an array of seeds.

    Its state has 128 bits, held in two arrays of 64.
    """

    def __init__(self, seeds: list[np.ndarray]):
        high, low, stream_high, stream_low = seeds
        self.increment = stream_high << 1 | stream_low >> 63, stream_low << 1 | 1
        self.state = _add(self.increment, (high, low))
        self._step()

    def next(self) -> np.ndarray:
        """Return the next number of each generator, uint64 (n,)."""
        self._step()
        high, low = self.state
        mixed, turn = high ^ low, high >> 58
        return mixed >> turn | mixed << (64 - turn & 63)

    def _step(self) -> None:
        (high, low), (times_high, times_low) = self.state, MULTIPLIER
        product = low * np.uint64(times_low)
        carry = _upper(low, times_low) + high * np.uint64(times_low) + low * np.uint64(times_high)
        self.state = _add((carry, product), self.increment)


def _add(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]), low


def _upper(a: np.ndarray, b: int) -> np.ndarray:
    """Return the upper 64 of the 128 bits of a product."""
    a_high, a_low, (b_high, b_low) = a >> 32, a & MASK, divmod(b, 2**32)
    middle = a_high * np.uint64(b_low) + (a_low * np.uint64(b_low) >> 32)
    other = a_low * np.uint64(b_high) + (middle & MASK)
    return a_high * np.uint64(b_high) + (middle >> 32) + (other >> 32)
