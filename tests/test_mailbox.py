import threading

import pytest

from edge_daemon.pipeline import Closed, Mailbox


def test_mailbox_hands_over_the_latest_and_counts_what_it_overwrote() -> None:
    mailbox = Mailbox[int](lossless=False)
    for number in range(5):
        mailbox.put(number)
    assert mailbox.get() == 4
    assert mailbox.dropped == 4


def test_lossless_mailbox_makes_the_sender_wait() -> None:
    mailbox = Mailbox[int](lossless=True)
    sender = threading.Thread(target=lambda: [mailbox.put(number) for number in range(3)])
    sender.start()
    sender.join(0.05)
    assert sender.is_alive()
    assert [mailbox.get() for _ in range(3)] == [0, 1, 2]
    sender.join(5)
    assert mailbox.dropped == 0


def test_closed_mailbox_gives_what_it_holds_and_then_says_so() -> None:
    mailbox = Mailbox[int](lossless=False)
    mailbox.put(1)
    mailbox.close()
    mailbox.put(2)
    assert mailbox.get() == 1
    with pytest.raises(Closed):
        mailbox.get()


def test_closing_wakes_a_waiting_sender() -> None:
    mailbox = Mailbox[int](lossless=True)
    mailbox.put(1)
    sender = threading.Thread(target=mailbox.put, args=(2,))
    sender.start()
    mailbox.close(discard=True)
    sender.join(5)
    assert not sender.is_alive()
    with pytest.raises(Closed):
        mailbox.get()
