"""What a model may call: tools, and the policy that decides about each call."""
