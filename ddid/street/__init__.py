"""The procedural street: people, cameras and the data set they make."""
