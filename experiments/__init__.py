"""Published tables and figures reproduced, and studies of ours; run by `eigenview experiment NAME` in the checkout."""
