"""A small shop: customers, products, orders, and the pages that its back office looks at."""
