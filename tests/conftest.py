"""What all tests share: machine code is kept in the checkout, not in the user's cache."""

import os
from pathlib import Path

os.environ["NISSL_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "code")
