#!/bin/sh
echo "expected 42, got 41"
exit 1
