import threading

import pytest

from edge_daemon.pipeline import Closed, Mailbox


def test_mailbox_drop_keeps_the_newest_and_counts() -> None:
    mailbox = Mailbox[int]("drop")
    for number in range(5):
        mailbox.put(number)
    assert mailbox.get() == 4
    assert mailbox.dropped == 4


def test_mailbox_block_makes_the_sender_wait() -> None:
    mailbox = Mailbox[int]("block")
    sender = threading.Thread(target=lambda: [mailbox.put(number) for number in range(3)])
    sender.start()
    sender.join(0.05)
    assert sender.is_alive()
    assert [mailbox.get() for _ in range(3)] == [0, 1, 2]
    sender.join(5)
    assert mailbox.dropped == 0


def test_mailbox_closed_returns_its_item_then_raises() -> None:
    mailbox = Mailbox[int]("drop")
    mailbox.put(1)
    mailbox.close()
    mailbox.put(2)
    assert mailbox.get() == 1
    with pytest.raises(Closed):
        mailbox.get()


def test_mailbox_close_wakes_a_blocked_sender() -> None:
    mailbox = Mailbox[int]("block")
    mailbox.put(1)
    sender = threading.Thread(target=mailbox.put, args=(2,))
    sender.start()
    mailbox.close(discard=True)
    sender.join(5)
    assert not sender.is_alive()
    with pytest.raises(Closed):
        mailbox.get()
