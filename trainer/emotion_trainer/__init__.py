"""The offline trainer of the daemon's emotion models: data, training, int8 export, bundle."""
