"""Turns image folders, shards and datasets into training and evaluation batches, with tf.data."""

from keras_crossvit.pipeline.augmentation import Augmentation
from keras_crossvit.pipeline.batches import evaluation_batches, steps_per_epoch, training_batches
from keras_crossvit.pipeline.contact_sheet import draw_contact_sheet
from keras_crossvit.pipeline.dataset import ImageDataset, open_dataset
from keras_crossvit.pipeline.shard_writing import prepare

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
