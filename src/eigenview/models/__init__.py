"""Networks: encoders by name, projector and predictor heads, the target network, and saving, loading, exporting."""
