"""What forecasts, training steps and simulations cost, and what the machine allows. See README.md."""
