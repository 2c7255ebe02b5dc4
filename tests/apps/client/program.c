// SPDX-License-Identifier: BSD-3-Clause
// What a VMM author writes first: this has to compile and link as C, with nothing but what is
// installed.
#include <faultline_client.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
  char error[160] = "";
  faultline_client* client = faultline_connect(argc > 1 ? argv[1] : "/", error, sizeof error);
  if (client != NULL) {
    faultline_close(client);
    return 1;
  }
  puts(error);
  return strlen(error) > 0 ? 0 : 2;
}
