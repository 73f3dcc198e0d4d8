import numpy as np

from keras_crossvit.evaluation.results import Evaluation


def test_worst_classes_are_printed_and_the_others_counted():
    names = tuple(f"class-{i:02d}" for i in range(22))
    rows = [{"class": name, "images": i, "precision": 0.5, "recall": 0.5, "f1": i / 22} for i, name in enumerate(names)]
    evaluation = Evaluation(
        class_names=names,
        images=231,
        loss=1.0,
        calibration_error=0.1,
        per_class=rows,
        reliability=np.zeros((15, 3)),
        images_per_second=1.0,
        top1=0.5,
        top5=None,
        confusion=np.zeros((22, 22)),
    )
    _, head, *shown, last = str(evaluation).splitlines()
    assert head.startswith("class (worst first)")
    assert [line.split()[0] for line in shown] == list(names[1:21])  # the first has no images
    assert last == "and 2 more classes"
