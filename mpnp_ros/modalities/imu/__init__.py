"""The inertial measurement unit: own motion from rotation rates and accelerations."""
