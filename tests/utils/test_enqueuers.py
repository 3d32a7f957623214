"""Keras 2's enqueuers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from datasets_for_processes import Numbers

from minikeras import utils


@pytest.mark.parametrize("processes", [False, True])
def test_batches_of_a_dataset_come_in_order_and_without_end(processes):
    data = Numbers()
    enqueuer = utils.OrderedEnqueuer(data, use_multiprocessing=processes)
    with pytest.raises(RuntimeError, match="needs start"):
        next(enqueuer.get())
    enqueuer.start(workers=2, max_queue_size=3)
    assert enqueuer.is_running()
    expected = [data[i][0] for i in range(len(data))]
    taken = list(itertools.islice(enqueuer.get(), len(data) + 1))
    np.testing.assert_array_equal([x for x, _ in taken[:-1]], expected)
    np.testing.assert_array_equal(taken[-1][0], data[0][0])  # as on_epoch_end has changed it
    assert all((here == 0).all() == processes for _, here in taken)
    enqueuer.stop()
    assert not enqueuer.is_running()


def test_an_epoch_ends_and_has_another_order():
    class Epochs(utils.Sequence):
        ends = 0

        def __len__(self):
            return 50

        def __getitem__(self, index):
            return index

        def on_epoch_end(self):
            self.ends += 1

    data = Epochs()
    enqueuer = utils.data_utils.OrderedEnqueuer(data, shuffle=True)
    enqueuer.start()
    batches = enqueuer.get()
    first, second = ([next(batches) for _ in range(50)] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(50)) and first != second
    assert data.ends == 1
    enqueuer.stop()
    assert list(batches) == []


def test_generators_and_their_errors():
    def batches():
        yield from (1, 2)
        raise OSError("no disk")

    enqueuer = utils.GeneratorEnqueuer(batches())
    enqueuer.start()
    found = enqueuer.get()
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(OSError, match="no disk"):
        next(found)
    enqueuer.stop()


def test_what_cannot_be_sent_is_refused():
    class Local(utils.Sequence):
        def __len__(self):
            return 1

    enqueuer = utils.OrderedEnqueuer(Local(), use_multiprocessing=True)
    enqueuer.start()
    with pytest.raises(ValueError, match="Local cannot be sent to worker processes"):
        next(enqueuer.get())
    enqueuer.stop()
