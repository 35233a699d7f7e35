"""What tests share, apart from fixtures; among it scripts that are run as processes."""
