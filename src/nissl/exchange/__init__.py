"""Models leave: ONNX, which other programs run (onnx; nodes in onnx_nodes, columns of tables in onnx_tables)."""
