"""python -m thole.ray: the same as thole-ray."""
import sys

from .command import main

sys.exit(main())
