"""Write synthetic transactions and products of any size in the input format."""

from bought_together.samples.simulated import main

if __name__ == "__main__":
    main()
