"""What an analyst looks at: the learned space of the queriers, in numbers and pictures."""
