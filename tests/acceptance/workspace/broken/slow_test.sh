#!/bin/sh
echo "this will take a while"
sleep 600
