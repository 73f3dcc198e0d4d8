import pytest

from keras_crossvit.training.resume import Interval


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [("30s", 30, None), ("5m", 300, None), ("1.5h", 5400, None), ("200steps", None, 200), ("1 step", None, 1)],
)
def test_rhythms_are_read(text, seconds, steps):
    interval = Interval.parse(text)
    assert (interval.seconds, interval.steps) == (seconds, steps)


@pytest.mark.parametrize("text", ["", "5", "m", "-1s", "0s", "0steps", "1.5steps", "5 days"])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own message)
        Interval.parse(text)


def test_steps_are_due_at_their_multiples():
    interval = Interval(steps=3)
    assert [step for step in range(1, 10) if interval.is_due(step)] == [3, 6, 9]


def test_seconds_are_due_once_when_they_have_passed(monkeypatch):
    now = 100.0
    monkeypatch.setattr("keras_crossvit.training.resume.time.monotonic", lambda: now)
    interval = Interval(seconds=10)
    assert not interval.is_due(1)
    now = 111.0
    assert interval.is_due(2)
    assert not interval.is_due(3)
