"""Programs that read `.tflite` files and are not LiteRT, each behind one function, to be compared with LiteRT."""
