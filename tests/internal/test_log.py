import logging

from keras_crossvit._internal.log import log_to_stdout, logger


def test_messages_are_printed_once_although_a_library_configured_the_root_logger(capsys):
    root = logging.StreamHandler()
    logging.getLogger().addHandler(root)
    try:
        with log_to_stdout(), log_to_stdout():
            logger.info("epoch 1/3")
    finally:
        logging.getLogger().removeHandler(root)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("epoch 1/3\n", "")


def test_a_library_that_is_imported_prints_nothing(capsys):
    logger.info("not shown")
    shown = capsys.readouterr()
    assert shown.out + shown.err == ""
