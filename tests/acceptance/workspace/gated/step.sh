#!/bin/sh
# step.sh GATE NAME: tells the test that it has started, and goes on once the gate is open.
# Opened for reading too, writing waits for nobody: the test may have ended.
echo "$2" 1<> "$1/arrivals" || exit 1
until [ -e "$1/open" ]; do sleep 0.05; done
echo "$2 is done"
