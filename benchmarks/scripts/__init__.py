"""Whole programs: five epochs of 784-128-10 on Fashion-MNIST, as a user of each library would write them."""
