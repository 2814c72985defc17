"""Programs that read `.tflite` files and are not LiteRT, each called by one function, to be compared with LiteRT."""
