"""`python -m clearml_k8s.cli`."""

import sys

from clearml_k8s.cli import main

sys.exit(main())
