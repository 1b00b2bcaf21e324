#pragma once

#include <string>
#include <vector>

// The words of a text, in lower case, without punctuation.
std::vector<std::string> split_words(const std::string& text);
