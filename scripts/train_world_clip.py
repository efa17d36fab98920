"""Train the CLIP `world-clip`, which knows the real objects too; see --help."""

from embedded.world_clip import main

if __name__ == "__main__":
    main()
