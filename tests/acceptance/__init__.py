"""What the package promises, shown with the real worker command in processes of its own, on a real database."""
