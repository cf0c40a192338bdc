"""From images to views: what a view is (specs), and the augmentation of whole batches."""
