"""The Keras layer of every operator: by its constants, by the names of tensors, by its neighbours."""
