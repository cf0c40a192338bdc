"""The report: run directories -> tables and figures -> one HTML file that needs no network.

`page.write_report` is the entry point. The report reads only the files that runfiles describes and never imports
torch, so that it can be made on a machine that could not train.
"""
