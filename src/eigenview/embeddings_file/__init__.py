"""Files of embeddings, a row for each image, read and written in blocks of rows: none is in memory as a whole.

reading.py  a table of numbers in a .npy, .npz or Parquet file of any origin
writing.py  a Parquet, .npy or CSV file, by the name's suffix
"""

from eigenview.embeddings_file.reading import SUFFIXES, Embeddings, open_embeddings
from eigenview.embeddings_file.writing import WRITTEN, check_out, write_embeddings

__all__ = ["SUFFIXES", "WRITTEN", "Embeddings", "check_out", "open_embeddings", "write_embeddings"]
