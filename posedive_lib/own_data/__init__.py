"""For your own photos: fit SMPL, import HMR2, augment a data set, extract features."""
