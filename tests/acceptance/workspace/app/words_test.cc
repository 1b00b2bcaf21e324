#include <iostream>

#include "app/words.h"

int main() {
  const auto words = split_words("The farm,\n the FARM!");
  if (words != std::vector<std::string>{"the", "farm", "the", "farm"}) {
    std::cerr << "got " << words.size() << " words\n";
    return 1;
  }
}
