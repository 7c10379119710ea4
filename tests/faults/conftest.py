import pathlib
import sys

for folder in (pathlib.Path(__file__).resolve().parent, pathlib.Path(__file__).resolve().parents[1] / "hosts" / "local"):
    sys.path.insert(0, str(folder))
