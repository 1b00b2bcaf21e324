#pragma once

#include <map>
#include <string>

// How often each word occurs in a text.
std::map<std::string, int> count_words(const std::string& text);
