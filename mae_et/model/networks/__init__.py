"""Networks of the EfficientTrain papers that timm lacks, registered with timm when imported.

`import mae_et.model` is enough for ``timm.create_model("cswin_tiny_224")`` to find them.
"""

from .cswin import CSWinTransformer
from .pvt import PyramidVisionTransformer
from .pyramid import PyramidTransformer

__all__ = ["CSWinTransformer", "PyramidTransformer", "PyramidVisionTransformer"]
