"""Own motion from an IMU: training of the head, and its accuracy on drives that it was not trained on."""
