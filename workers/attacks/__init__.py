"""What a candidate must still withhold when its weights are quantised, trained further, or asked in another way."""
