"""What runs the product on other people's ground; nothing of it is part of the product itself."""
