"""The app: customers, their orders, the kitchen that cooks them, and the browsers that hear of it."""
