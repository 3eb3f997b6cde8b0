"""One Struct per event, grouped by subject. Which topic carries which is said in `shared.topics`."""
