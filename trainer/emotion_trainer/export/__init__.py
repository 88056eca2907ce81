"""Export of Keras models to int8 TFLite files."""
