from keras_crossvit._internal.errors import InvalidValueError


def test_a_long_value_in_a_message_is_shortened_and_the_remedy_kept():
    text = str(InvalidValueError(f"precision {'x' * 100_000!r} is unknown; use float32."))
    assert len(text) <= 2000
    assert text.startswith("precision 'xxx")
    assert text.endswith("xxx' is unknown; use float32.")
