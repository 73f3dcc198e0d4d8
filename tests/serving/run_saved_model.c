/* Runs a SavedModel by TensorFlow's C API, through the loader that TensorFlow Serving uses, with no Python in the
 * process.
 *
 * Usage: run_saved_model FOLDER < PLAN
 *
 * Lines of the plan, in which a tensor is named as in the graph ("serving_default_image:0"):
 *   feed TENSOR DTYPE RANK SIZE... FILE   takes an input from a file: raw values, or for strings, each string's length
 *                                         as 8 bytes before its bytes
 *   fetch TENSOR FILE                     names an output and the file to write: a text line "DTYPE RANK SIZE...", then
 *                                         the values in the same form
 *   run                                   runs what has been fed and fetched since the last run, and prints "ran" or the
 *                                         error's first line
 * At the end it prints "python" if a library of Python is loaded, else "no python".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

enum { MOST_TENSORS = 8, MOST_AXES = 8 };

static TF_Output inputs[MOST_TENSORS], outputs[MOST_TENSORS];
static TF_Tensor *values[MOST_TENSORS];
static char files[MOST_TENSORS][4096];
static int input_count, output_count;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static FILE *open_or_fail(const char *path, const char *mode) {
  FILE *file = fopen(path, mode);
  if (!file) fail(path, "cannot be opened");
  return file;
}

static void read_or_fail(void *target, size_t size, FILE *file) {
  if (size && fread(target, size, 1, file) != 1) fail("feed", "the file is too short");
}

static TF_Output tensor_named(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  if (!colon) fail(name, "has no output number");
  *colon = '\0';
  TF_Output tensor = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (!tensor.oper) fail(name, "is no operation of the graph");
  return tensor;
}

static void feed(TF_Graph *graph) {
  char name[1024], path[4096];
  int dtype, rank;
  int64_t sizes[MOST_AXES], count = 1;
  if (scanf("%1023s %d %d", name, &dtype, &rank) != 3 || rank > MOST_AXES) fail("feed", "the line cannot be read");
  for (int axis = 0; axis < rank; ++axis) {
    if (scanf("%ld", &sizes[axis]) != 1) fail("feed", "a size is missing");
    count *= sizes[axis];
  }
  if (scanf("%4095s", path) != 1) fail("feed", "the file is missing");
  FILE *file = open_or_fail(path, "rb");
  size_t item = dtype == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(dtype);
  TF_Tensor *tensor = TF_AllocateTensor(dtype, sizes, rank, count * item);
  if (dtype != TF_STRING) read_or_fail(TF_TensorData(tensor), count * item, file);
  for (int64_t i = 0; dtype == TF_STRING && i < count; ++i) {
    uint64_t length;
    read_or_fail(&length, sizeof length, file);
    char *bytes = malloc(length + 1);
    read_or_fail(bytes, length, file);
    TF_TString *text = (TF_TString *)TF_TensorData(tensor) + i;
    TF_StringInit(text);
    TF_StringCopy(text, bytes, length);
    free(bytes);
  }
  fclose(file);
  inputs[input_count] = tensor_named(graph, name);
  values[input_count++] = tensor;
}

static void fetch(TF_Graph *graph) {
  char name[1024];
  if (scanf("%1023s %4095s", name, files[output_count]) != 2) fail("fetch", "the line cannot be read");
  outputs[output_count++] = tensor_named(graph, name);
}

static void store(const TF_Tensor *tensor, const char *path) {
  FILE *file = open_or_fail(path, "wb");
  fprintf(file, "%d %d", TF_TensorType(tensor), TF_NumDims(tensor));
  for (int axis = 0; axis < TF_NumDims(tensor); ++axis) fprintf(file, " %ld", TF_Dim(tensor, axis));
  fprintf(file, "\n");
  if (TF_TensorType(tensor) != TF_STRING) fwrite(TF_TensorData(tensor), TF_TensorByteSize(tensor), 1, file);
  for (int64_t i = 0; TF_TensorType(tensor) == TF_STRING && i < TF_TensorElementCount(tensor); ++i) {
    const TF_TString *text = (const TF_TString *)TF_TensorData(tensor) + i;
    uint64_t length = TF_StringGetSize(text);
    fwrite(&length, sizeof length, 1, file);
    fwrite(TF_StringGetDataPointer(text), 1, length, file);
  }
  fclose(file);
}

static void run(TF_Session *session, TF_Status *status) {
  TF_Tensor *results[MOST_TENSORS] = {0};
  TF_SessionRun(session, NULL, inputs, values, input_count, outputs, results, output_count, NULL, 0, NULL, status);
  const char *message = TF_GetCode(status) == TF_OK ? "ran" : TF_Message(status);
  printf("%.*s\n", (int)strcspn(message, "\n"), message);
  for (int i = 0; i < input_count; ++i) TF_DeleteTensor(values[i]);
  for (int i = 0; i < output_count; ++i) {
    if (!results[i]) continue;
    store(results[i], files[i]);
    TF_DeleteTensor(results[i]);
  }
  input_count = output_count = 0;
}

static const char *python_loaded(void) {
  static char line[8192];
  FILE *maps = open_or_fail("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps))
    if (strstr(line, "libpython") || strstr(line, "_pywrap")) return "python";
  fclose(maps);
  return "no python";
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage", "run_saved_model FOLDER < PLAN");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail("load", TF_Message(status));
  char verb[16];
  while (scanf("%15s", verb) == 1) {
    if (!strcmp(verb, "feed")) feed(graph);
    else if (!strcmp(verb, "fetch")) fetch(graph);
    else if (!strcmp(verb, "run")) run(session, status);
    else fail(verb, "is neither feed, fetch nor run");
  }
  printf("%s\n", python_loaded());
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
