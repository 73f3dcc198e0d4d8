"""Pictures from folders, shards or datasets into batches that a CrossViT trains on."""

from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.batches import evaluation_batches, steps_per_epoch, training_batches
from keras_crossvit.pipeline.contact_sheet import draw_contact_sheet
from keras_crossvit.pipeline.dataset import ImageDataset, open_dataset
from keras_crossvit.pipeline.prepare import prepare

__all__ = [
    "Augmentation",
    "ImageDataset",
    "draw_contact_sheet",
    "evaluation_batches",
    "open_dataset",
    "prepare",
    "steps_per_epoch",
    "training_batches",
]
