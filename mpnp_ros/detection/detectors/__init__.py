"""Networks that find objects in images, behind one protocol; weights are never part of the package."""
